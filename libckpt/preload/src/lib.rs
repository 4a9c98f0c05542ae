//! `libckpt.so`: what `LD_PRELOAD` names.
