/* The locale and the time zone of a guest that marshals its own calls: its C library opens their files natively, which it
 * cannot do behind the seal. So they are opened before, by the variables that the guest has, which are its policy's; the
 * launch hands over none of the host's. What the C library has opened once it keeps.
 *
 * Only files of the system's own folders are opened: glibc takes no path for a locale, and here none is taken for a time
 * zone. Without TZ it would open /etc/localtime, which tells the host's zone: nothing is opened then, and it is UTC.
 */
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "stub.h"

static bool is_zone_of_the_system(const char *name)
{
    static const char folder[] = "/usr/share/zoneinfo/";
    name += *name == ':';
    if (!strncmp(name, folder, sizeof folder - 1))
        name += sizeof folder - 1;
    /* Debian's `localtime` among the zones is a link to the host's own. */
    return *name != '/' && !strstr(name, "..") && !strstr(name, "localtime");
}

void load_locale(void)
{
    const char *zone = getenv("TZ");
    unsetenv("TZDIR");
    unsetenv("LOCPATH"); /* which no policy may set either */
    if (zone && is_zone_of_the_system(zone))
        tzset();
    setlocale(LC_ALL, "C.UTF-8");
    setlocale(LC_ALL, "");
    setlocale(LC_ALL, "C"); /* as `main` finds it */
}
