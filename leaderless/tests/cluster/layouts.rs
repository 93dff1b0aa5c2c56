//! Layouts that change under load.
