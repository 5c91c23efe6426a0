/* Layers that the process puts around itself when its loader has finished and it needs no more files.
 *
 * They protect if the seal or the kernel has a hole. The seal depends on none of them.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/mount.h>
#include <sys/prctl.h>

#include "stub_start.h"

/* These are from headers that some systems do not have yet: linux/mount.h, linux/landlock.h. */
enum { FSCONFIG_CREATE = 6, FSOPEN_CLOSE_ON_EXEC = 1, FSMOUNT_CLOSE_ON_EXEC = 1, MOVE_MOUNT_EMPTY_FROM = 4 };
enum { ATTR_RDONLY = 1, ATTR_NOSUID = 2, ATTR_NODEV = 4, ATTR_NOEXEC = 8 };

static long detached_tmpfs(void)
{
    long context = KERNEL(SYS_fsopen, "tmpfs", FSOPEN_CLOSE_ON_EXEC);
    if (context < 0)
        return context;
    long mount = KERNEL(SYS_fsconfig, context, FSCONFIG_CREATE);
    if (mount == 0)
        mount = KERNEL(SYS_fsmount, context, FSMOUNT_CLOSE_ON_EXEC, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC);
    KERNEL(SYS_close, context);
    return mount;
}

/* Makes an empty, read-only filesystem the root, and detaches the whole old tree: mount_namespaces(7), pivot_root(2).
 * Only for the box's own mount namespace. */
int enter_empty_root(void)
{
    long root = detached_tmpfs(), result;
    if (root < 0)
        return (int)-root;
    (void)((result = KERNEL(SYS_mount, 0, "/", 0, MS_REC | MS_PRIVATE)) < 0 ||
           (result = KERNEL(SYS_move_mount, root, "", AT_FDCWD, "/", MOVE_MOUNT_EMPTY_FROM)) < 0 ||
           (result = KERNEL(SYS_fchdir, root)) < 0 || (result = KERNEL(SYS_pivot_root, ".", ".")) < 0 ||
           (result = KERNEL(SYS_umount2, ".", MNT_DETACH)) < 0 || (result = KERNEL(SYS_chdir, "/")) < 0);
    KERNEL(SYS_close, root);
    return (int)-result;
}

/* landlock(7): enters a domain that handles all access rights that the kernel knows, and allows none. */
int enter_landlock(void)
{
    struct {
        uint64_t files, network, scopes;
    } handled;
    long version = KERNEL(SYS_landlock_create_ruleset, 0, 0, 1);
    if (version <= 0)
        return version ? (int)-version : ENOSYS;
    static const uint8_t file_rights[] = {13, 14, 15, 15, 16, 16, 16, 16}; /* the number of rights, by version */
    handled.network = version < 4 ? 0 : 3; /* bind and connect by TCP */
    handled.scopes = version < 6 ? 0 : 3;  /* abstract sockets and signals */
    /* Newer kernels know more rights than this table: the loop finds the largest number that this kernel accepts. */
    int count = version <= 8 ? file_rights[version - 1] : 32;
    long rules = ERROR(EINVAL);
    for (; rules == ERROR(EINVAL) && count >= 13; count--) {
        handled.files = (1ul << count) - 1;
        rules = KERNEL(SYS_landlock_create_ruleset, &handled, version < 4 ? 8 : version < 6 ? 16 : 24);
    }
    if (rules < 0)
        return (int)-rules;
    long result = KERNEL(SYS_landlock_restrict_self, rules);
    KERNEL(SYS_close, rules);
    return (int)-result;
}

/* The launcher leaves CAP_SYS_ADMIN over the box's own user namespace, for the empty root. The controller checks from
 * outside that no capability is left. */
void drop_capabilities(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0, 0, 0}, {0, 0, 0}};
    KERNEL(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL);
    KERNEL(SYS_capset, &header, none);
}
