//! A broker under strace: faults on order, and what its system calls prove.
