/* Put before the C library by a test: synchronising a file fails with EIO while the file named by SYNC_FAILS exists. */
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fails(void) {
    const char *trigger = getenv("SYNC_FAILS");
    if (trigger == NULL || access(trigger, F_OK) != 0) {
        return 0;
    }
    errno = EIO;
    return 1;
}

int fsync(int file) {
    return fails() ? -1 : (int)syscall(SYS_fsync, file);
}

int fdatasync(int file) {
    return fails() ? -1 : (int)syscall(SYS_fdatasync, file);
}
