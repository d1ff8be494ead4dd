/* Put before the C library: lets calls of a host on files below SABOTEUR_UNDER fail, its clock lie and its machine seem to
 * have booted anew, as the file named by SABOTEUR says. That file is shared memory: it can be changed while the host runs.
 * Calls go to the kernel by themselves, so that nothing of the C library that is replaced here is needed. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* As `Call` in saboteur.rs. */
enum { SYNC = 1, WRITE = 2, OPEN = 4, RESIZE = 8, NAME = 16 };

struct control {
    int64_t calls;     /* which may fail */
    int64_t first;     /* the first of them that does, counted from 1; 0: none */
    int64_t last;      /* the last one */
    int64_t error;     /* how; 0: the process is killed instead */
    int64_t seen;      /* such calls so far */
    int64_t failed;    /* those that did */
    int64_t clock;     /* seconds that the wall clock is ahead */
    int64_t boot;      /* not 0: the boot id is another one */
    char where[4032];  /* the first that did */
};

static struct control *control;
static char under[4096];

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("SABOTEUR"), *folder = getenv("SABOTEUR_UNDER");
    if (path == NULL || folder == NULL) {
        return;
    }
    int file = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    if (file < 0) {
        return;
    }
    void *memory = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    syscall(SYS_close, file);
    if (memory != MAP_FAILED) {
        snprintf(under, sizeof under, "%s", folder);
        control = memory;
    }
}

static int is_under(const char *path) {
    size_t length = strlen(under);
    return strncmp(path, under, length) == 0 && (path[length] == '/' || path[length] == 0);
}

/* The path of an open file; empty where it has none. */
static void path_of(int file, char *path, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, path, size - 1);
    path[length < 0 ? 0 : length] = 0;
}

/* A path as seen from a folder, which may be AT_FDCWD. */
static void path_from(int folder, const char *name, char *path, size_t size) {
    size_t length = 0;
    path[0] = 0;
    if (name[0] != '/') {
        if (folder == AT_FDCWD) {
            if (syscall(SYS_getcwd, path, size) < 0) {
                path[0] = 0;
            }
        } else {
            path_of(folder, path, size);
        }
        length = strlen(path);
    }
    snprintf(path + length, size - length, "%s%s", length > 0 ? "/" : "", name);
}

static int fails(int64_t call, const char *name, const char *path) {
    if (!(control->calls & call) || !is_under(path)) {
        return 0;
    }
    int64_t nth = __atomic_add_fetch(&control->seen, 1, __ATOMIC_SEQ_CST);
    if (control->first == 0 || nth < control->first || nth > control->last) {
        return 0;
    }
    if (__atomic_add_fetch(&control->failed, 1, __ATOMIC_SEQ_CST) == 1) {
        snprintf(control->where, sizeof control->where, "%s %s", name, path);
    }
    if (control->error == 0) {
        syscall(SYS_kill, getpid(), SIGKILL);
    }
    errno = (int)control->error;
    return 1;
}

static int file_fails(int64_t call, const char *name, int file) {
    if (control == NULL || !(control->calls & call)) {
        return 0;
    }
    char path[4096];
    path_of(file, path, sizeof path);
    return fails(call, name, path);
}

static int name_fails(const char *name, int folder, const char *given) {
    if (control == NULL || !(control->calls & NAME)) {
        return 0;
    }
    char path[4096];
    path_from(folder, given, path, sizeof path);
    return fails(NAME, name, path);
}

/* A file that is only read can be opened on a disk that is read-only, and one that is there on a full one. */
static int open_fails(int folder, const char *given, int flags) {
    if (control == NULL || !(control->calls & OPEN)) {
        return 0;
    }
    if (control->error == EROFS && (flags & O_ACCMODE) == O_RDONLY && !(flags & O_CREAT)) {
        return 0;
    }
    char path[4096];
    path_from(folder, given, path, sizeof path);
    if (control->error == ENOSPC) {
        int before = errno, is_there = syscall(SYS_faccessat, AT_FDCWD, path, F_OK) == 0;
        errno = before;
        if (!(flags & O_CREAT) || is_there) {
            return 0;
        }
    }
    return fails(OPEN, "open", path);
}

/* Another id of the machine's boot: a pipe that holds it. */
static int other_boot(void) {
    int ends[2];
    char id[64];
    if (syscall(SYS_pipe2, ends, O_CLOEXEC) < 0) {
        return -1;
    }
    int length = snprintf(id, sizeof id, "boot-%lld\n", (long long)control->boot);
    syscall(SYS_write, ends[1], id, length);
    syscall(SYS_close, ends[1]);
    return ends[0];
}

static int open_from(int folder, const char *path, int flags, unsigned mode) {
    if (control != NULL && control->boot != 0 && strcmp(path, "/proc/sys/kernel/random/boot_id") == 0) {
        return other_boot();
    }
    return open_fails(folder, path, flags) ? -1 : (int)syscall(SYS_openat, folder, path, flags, mode);
}

#define MODE(flags, last)                            \
    unsigned mode = 0;                               \
    if (flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) { \
        va_list list;                                \
        va_start(list, last);                        \
        mode = va_arg(list, unsigned);               \
        va_end(list);                                \
    }

int open(const char *path, int flags, ...) {
    MODE(flags, flags)
    return open_from(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE(flags, flags)
    return open_from(AT_FDCWD, path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...) {
    MODE(flags, flags)
    return open_from(folder, path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...) {
    MODE(flags, flags)
    return open_from(folder, path, flags, mode);
}

int fsync(int file) {
    return file_fails(SYNC, "fsync", file) ? -1 : (int)syscall(SYS_fsync, file);
}

int fdatasync(int file) {
    return file_fails(SYNC, "fdatasync", file) ? -1 : (int)syscall(SYS_fdatasync, file);
}

ssize_t write(int file, const void *bytes, size_t length) {
    return file_fails(WRITE, "write", file) ? -1 : syscall(SYS_write, file, bytes, length);
}

ssize_t pwrite(int file, const void *bytes, size_t length, off_t at) {
    return file_fails(WRITE, "pwrite", file) ? -1 : syscall(SYS_pwrite64, file, bytes, length, at);
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t at) {
    return file_fails(WRITE, "pwrite", file) ? -1 : syscall(SYS_pwrite64, file, bytes, length, at);
}

int ftruncate(int file, off_t length) {
    return file_fails(RESIZE, "ftruncate", file) ? -1 : (int)syscall(SYS_ftruncate, file, length);
}

int ftruncate64(int file, off64_t length) {
    return file_fails(RESIZE, "ftruncate", file) ? -1 : (int)syscall(SYS_ftruncate, file, length);
}

int mkdir(const char *path, mode_t mode) {
    return name_fails("mkdir", AT_FDCWD, path) ? -1 : (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

int rename(const char *from, const char *to) {
    return name_fails("rename", AT_FDCWD, to) ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlink(const char *path) {
    /* A full disk takes nothing away from those who remove. */
    int is_full = control != NULL && control->error == ENOSPC;
    return !is_full && name_fails("unlink", AT_FDCWD, path) ? -1 : (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = (int)syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && control != NULL && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        time->tv_sec += control->clock;
    }
    return result;
}

int gettimeofday(struct timeval *time, void *zone) {
    int result = (int)syscall(SYS_gettimeofday, time, zone);
    if (result == 0 && control != NULL) {
        time->tv_sec += control->clock;
    }
    return result;
}

time_t time(time_t *to) {
    struct timespec now = {0, 0};
    clock_gettime(CLOCK_REALTIME, &now);
    if (to != NULL) {
        *to = now.tv_sec;
    }
    return now.tv_sec;
}
