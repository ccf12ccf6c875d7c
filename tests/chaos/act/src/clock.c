// The wall clock of one process, off by what a file says: put in front of it by LD_PRELOAD, see clock.rs. The other
// clocks are the kernel's. The file is opened once and read at each look, so that the clock steps while the process runs.

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int file = -1;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("SKEP_CHAOS_CLOCK");
    if (path != NULL) file = open(path, O_RDONLY | O_CLOEXEC);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int64_t seconds = 0;
    if (syscall(SYS_clock_gettime, clock, now) != 0) return -1;
    if (clock == CLOCK_REALTIME && file >= 0 && pread(file, &seconds, sizeof seconds, 0) == sizeof seconds)
        now->tv_sec += seconds;
    return 0;
}
