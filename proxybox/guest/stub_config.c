/* The configuration from the controller, and the state of this process, for all other files of the stub. */
#include <linux/seccomp.h>

#include "stub_ground.h"

struct config config;
char outside_proc[MAX_OUTSIDE_PROC];
struct sock_filter filter[MAX_FILTER];
struct settings_and_rings settings_and_rings;
__thread int channel_index __attribute__((tls_model("initial-exec"))) = 0;
bool can_map_libraries, is_sealed, has_had_threads;

struct clock_ring *own_ring(void)
{
    unsigned index = (unsigned)channel_index;
    return &settings_and_rings.ring[index < MAX_CHANNELS ? index : 0];
}

long install_filter(long length, unsigned flags)
{
    struct sock_fprog program = {.len = (unsigned short)length, .filter = filter};
    return KERNEL(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}
