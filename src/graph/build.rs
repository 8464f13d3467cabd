//! Builder methods: the vocabulary in which architectures are written.
