/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * libckpt.so: optional calls for programs that know of ckpt. No program has to make them; one that does links with
 * -lckpt, or looks them up with dlsym(3) so that it also runs without the library.
 */
#ifndef CKPT_H
#define CKPT_H

#ifdef __cplusplus
extern "C" {
#endif

/* Saves the job that this program belongs to, and returns when that is done:
 *    0  saved;
 *    1  this is the program restored from that checkpoint;
 *   -1  not saved; one line on standard error says why, and the program is as it was.
 * Blocks the calling thread only. A restored program may take two seconds to learn that it was restored. */
int ckpt_save(void);

/* 1 when this program is protected, 0 when it is not. */
int ckpt_is_protected(void);

#ifdef __cplusplus
}
#endif

#endif
