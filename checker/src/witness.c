/* Put before the C library: for every write of the ledger's files that was synchronised, one byte more in the file named
 * by SYNCED. Who reads its length before a send and after the answer knows whether anything went to the disk between. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int is_ledger(int file) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) {
        return 0;
    }
    path[length] = 0;
    char *name = strrchr(path, '/');
    return name != NULL && (strcmp(name, "/ledger.db") == 0 || strcmp(name, "/ledger.db-wal") == 0);
}

static int noted(int file, long result) {
    int before = errno;
    const char *path = getenv("SYNCED");
    if (result == 0 && path != NULL && is_ledger(file)) {
        int notes = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (notes >= 0) {
            if (write(notes, ".", 1) < 0) { /* then it is not counted, and missed */
            }
            close(notes);
        }
    }
    errno = before;
    return (int)result;
}

int fsync(int file) {
    return noted(file, syscall(SYS_fsync, file));
}

int fdatasync(int file) {
    return noted(file, syscall(SYS_fdatasync, file));
}
