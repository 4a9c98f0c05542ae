//! An exported checkpoint: a header, then frames, each of which vouches for all before it.
