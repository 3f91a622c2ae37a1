//! Every table of model names.
