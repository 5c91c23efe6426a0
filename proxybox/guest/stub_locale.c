/* The locale and the time zone of a guest that marshals its own calls. Its C library opens their files natively, which
 * it cannot do after the seal. So they are opened before, according to the guest's environment variables. Those come
 * from the policy; the launch passes none of the host's variables. The C library does not unload them.
 *
 * Only files in the system's own folders are opened: glibc accepts no path as a locale name, and this code accepts none
 * as a time zone. Without TZ glibc would open /etc/localtime, which shows the host's zone. So then no file is opened,
 * and the zone is UTC.
 */
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "stub_start.h"

static bool is_zone_of_the_system(const char *name)
{
    static const char folder[] = "/usr/share/zoneinfo/";
    name += *name == ':';
    if (!strncmp(name, folder, sizeof folder - 1))
        name += sizeof folder - 1;
    /* In Debian `localtime`, among the zones, is a link to the host's own zone. */
    return *name != '/' && !strstr(name, "..") && !strstr(name, "localtime");
}

void load_locale(void)
{
    const char *zone = getenv("TZ");
    unsetenv("TZDIR");
    unsetenv("LOCPATH"); /* a policy may not set it either */
    if (zone && is_zone_of_the_system(zone))
        tzset();
    setlocale(LC_ALL, "C.UTF-8");
    setlocale(LC_ALL, "");
    setlocale(LC_ALL, "C"); /* the state in which every `main` starts */
}
