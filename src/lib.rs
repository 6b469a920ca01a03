//! Keeps guests running when hosts die.
