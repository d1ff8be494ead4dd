/* Put before the C library: writes down, in order, what a process does to the files of the folder RECORDED, and when what
 * it synchronises is on disk, in the file JOURNAL. A change is written down when it has been made and before anybody knows
 * of it, one after another. What goes around these functions is not seen: whoever reads the journal compares it with the
 * folder. BOOT_ID names a file that is read instead of the system's boot id, as after a power failure.
 *
 * A record is a header (struct header, as the machine writes it) and its bytes: a path below the folder, two of them with a
 * zero between, or what was written. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { MADE = 1, WROTE, CUT, UNLINKED, RENAMED, SYNC_BEGUN, SYNCED, MADE_FOLDER, REMOVED_FOLDER };

struct header {
    uint64_t at_us;  /* of the monotonic clock, before it was done; for SYNCED, after */
    uint64_t file;   /* the number of its inode */
    uint64_t offset; /* where it was written, the new length, or the number of the synchronisation */
    uint32_t kind;
    uint32_t bytes; /* that follow */
};

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static char folder[PATH_MAX];
static size_t folder_length;
static int journal = -1;
static uint64_t synchronisations;

__attribute__((constructor)) static void begin(void) {
    const char *recorded = getenv("RECORDED"), *path = getenv("JOURNAL");
    if (recorded != NULL && path != NULL && strlen(recorded) < sizeof folder) {
        journal = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        folder_length = strlen(recorded);
        memcpy(folder, recorded, folder_length + 1);
    }
}

/* Whoever kills the process takes the lock of the journal first: nothing is then done that is not written down. */
static void take_turn(void) {
    pthread_mutex_lock(&turn);
    if (journal >= 0) {
        syscall(SYS_flock, journal, LOCK_EX);
    }
}

static void end_turn(void) {
    if (journal >= 0) {
        syscall(SYS_flock, journal, LOCK_UN);
    }
    pthread_mutex_unlock(&turn);
}

static uint64_t now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* The path of an open file below the folder, which may be the folder itself; NULL where it is none of ours. */
static const char *ours(int file, char path[PATH_MAX]) {
    char link[64];
    if (journal < 0 || file < 0) {
        return NULL;
    }
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    if (length < (ssize_t)folder_length) {
        return NULL;
    }
    path[length] = 0;
    if (memcmp(path, folder, folder_length) != 0 || (path[folder_length] != '/' && path[folder_length] != 0)) {
        return NULL;
    }
    /* What SQLite shares between processes is memory: nobody reads it after a power failure. */
    if (length > 4 && strcmp(path + length - 4, "-shm") == 0) {
        return NULL;
    }
    return path[folder_length] == '/' ? path + folder_length + 1 : path + folder_length;
}

static uint64_t inode(int file) {
    struct stat found;
    return fstat(file, &found) == 0 ? (uint64_t)found.st_ino : 0;
}

static int hold(const char *path) {
    return (int)syscall(SYS_openat, AT_FDCWD, path, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
}

static void release(int file) {
    if (file >= 0) {
        syscall(SYS_close, file);
    }
}

/* Nobody may go on with a hole in the journal. */
static void note(uint64_t at_us, uint32_t kind, uint64_t file, uint64_t offset, const void *bytes, size_t length) {
    struct header header = {at_us, file, offset, kind, (uint32_t)length};
    struct iovec parts[2] = {{&header, sizeof header}, {(void *)bytes, length}};
    if (syscall(SYS_writev, journal, parts, 2) != (long)(sizeof header + length)) {
        abort();
    }
}

static int opened(const char *path, int flags, mode_t mode) {
    const char *boot_id = getenv("BOOT_ID");
    if (boot_id != NULL && strcmp(path, "/proc/sys/kernel/random/boot_id") == 0) {
        path = boot_id;
    }
    if (journal < 0 || (flags & (O_CREAT | O_TRUNC)) == 0) {
        return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    }
    char link[PATH_MAX];
    take_turn();
    uint64_t at_us = now_us();
    int before = hold(path);
    int file = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode), error = errno;
    const char *name = ours(file, link);
    if (name != NULL && before < 0) {
        note(at_us, MADE, inode(file), 0, name, strlen(name));
    } else if (name != NULL && (flags & O_TRUNC) != 0) {
        note(at_us, CUT, inode(file), 0, NULL, 0);
    }
    release(before);
    end_turn();
    errno = error;
    return file;
}

int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(more, mode_t) : 0;
    va_end(more);
    return opened(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(more, mode_t) : 0;
    va_end(more);
    return opened(path, flags, mode);
}

/* Where the next write goes that names no place. */
static off_t place(int file) {
    struct stat found;
    int flags = fcntl(file, F_GETFL);
    if (flags >= 0 && (flags & O_APPEND) != 0 && fstat(file, &found) == 0) {
        return found.st_size;
    }
    return lseek(file, 0, SEEK_CUR);
}

/* Notes what was written since a turn began, ends the turn, and answers as the call did. */
static ssize_t after_write(uint64_t at_us, int file, const void *bytes, off_t offset, ssize_t written) {
    int error = errno;
    if (written > 0) {
        note(at_us, WROTE, inode(file), (uint64_t)offset, bytes, (size_t)written);
    }
    end_turn();
    errno = error;
    return written;
}

ssize_t write(int file, const void *bytes, size_t length) {
    char link[PATH_MAX];
    if (ours(file, link) == NULL) {
        return syscall(SYS_write, file, bytes, length);
    }
    take_turn();
    uint64_t at_us = now_us();
    off_t offset = place(file);
    ssize_t written = syscall(SYS_write, file, bytes, length);
    return after_write(at_us, file, bytes, offset, written);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    char link[PATH_MAX];
    if (ours(file, link) == NULL || count == 0) {
        return syscall(SYS_writev, file, parts, count);
    }
    /* The first part alone: whoever writes goes on with the rest. */
    return write(file, parts[0].iov_base, parts[0].iov_len);
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t offset) {
    char link[PATH_MAX];
    if (ours(file, link) == NULL) {
        return syscall(SYS_pwrite64, file, bytes, length, offset);
    }
    take_turn();
    uint64_t at_us = now_us();
    ssize_t written = syscall(SYS_pwrite64, file, bytes, length, offset);
    return after_write(at_us, file, bytes, offset, written);
}

ssize_t pwrite(int file, const void *bytes, size_t length, off_t offset) {
    return pwrite64(file, bytes, length, offset);
}

int ftruncate64(int file, off64_t length) {
    char link[PATH_MAX];
    if (ours(file, link) == NULL) {
        return (int)syscall(SYS_ftruncate, file, length);
    }
    take_turn();
    uint64_t at_us = now_us();
    int done = (int)syscall(SYS_ftruncate, file, length), error = errno;
    if (done == 0) {
        note(at_us, CUT, inode(file), (uint64_t)length, NULL, 0);
    }
    end_turn();
    errno = error;
    return done;
}

int ftruncate(int file, off_t length) {
    return ftruncate64(file, length);
}

static int removed(const char *path, int flags) {
    char link[PATH_MAX];
    take_turn();
    uint64_t at_us = now_us();
    int before = hold(path);
    const char *name = ours(before, link);
    int done = (int)syscall(SYS_unlinkat, AT_FDCWD, path, flags), error = errno;
    if (done == 0 && name != NULL) {
        note(at_us, flags == AT_REMOVEDIR ? REMOVED_FOLDER : UNLINKED, 0, 0, name, strlen(name));
    }
    release(before);
    end_turn();
    errno = error;
    return done;
}

int unlink(const char *path) {
    return removed(path, 0);
}

int rmdir(const char *path) {
    return removed(path, AT_REMOVEDIR);
}

int rename(const char *from, const char *to) {
    char link[PATH_MAX], names[2 * PATH_MAX];
    take_turn();
    uint64_t at_us = now_us();
    int file = hold(from);
    const char *name = ours(file, link);
    size_t first = name != NULL ? strlen(name) + 1 : 0;
    if (first > 0) {
        memcpy(names, name, first);
    }
    int done = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0), error = errno;
    name = ours(file, link);
    if (done == 0 && first > 0 && name != NULL) {
        strcpy(names + first, name);
        note(at_us, RENAMED, 0, 0, names, first + strlen(name));
    }
    release(file);
    end_turn();
    errno = error;
    return done;
}

int mkdir(const char *path, mode_t mode) {
    char link[PATH_MAX];
    take_turn();
    uint64_t at_us = now_us();
    int done = (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode), error = errno;
    int file = done == 0 && journal >= 0 ? hold(path) : -1;
    const char *name = ours(file, link);
    if (name != NULL) {
        note(at_us, MADE_FOLDER, inode(file), 0, name, strlen(name));
    }
    release(file);
    end_turn();
    errno = error;
    return done;
}

/* Others write meanwhile: only what was written before it began is on disk when it ends. */
static int synchronised(long number, int file) {
    char link[PATH_MAX];
    if (ours(file, link) == NULL) {
        return (int)syscall(number, file);
    }
    uint64_t of = inode(file);
    take_turn();
    uint64_t nth = synchronisations++;
    note(now_us(), SYNC_BEGUN, of, nth, NULL, 0);
    end_turn();
    int done = (int)syscall(number, file), error = errno;
    if (done == 0) {
        take_turn();
        note(now_us(), SYNCED, of, nth, NULL, 0);
        end_turn();
    }
    errno = error;
    return done;
}

int fsync(int file) {
    return synchronised(SYS_fsync, file);
}

int fdatasync(int file) {
    return synchronised(SYS_fdatasync, file);
}
