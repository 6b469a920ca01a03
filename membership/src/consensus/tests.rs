//! The replica in a cluster, against loss, crashes and hostile input.
