/* From the constructor to the seal, and the functions that programs and libc call by name. */
#ifndef PROXYBOX_STUB_START_H
#define PROXYBOX_STUB_START_H

#include "stub_trap.h"

/* stub_hide.c: removes launch strings, host paths and host ids from the guest's memory. */
void hide_launch(char **environment);
void hide_paths(char *text, size_t size);

/* stub_layers.c: enter_* return 0 or an errno; the box starts without a layer that the kernel refuses. */
int enter_empty_root(void);
int enter_landlock(void);
void drop_capabilities(void);

/* stub_locale.c: called before the seal, and after `hide_launch`, which needs the kernel's layout of the
 * environment. */
void load_locale(void);

/* stub_end.c: end_prepare is called before the interpreter's `main`. */
void end_prepare(void);

#endif
