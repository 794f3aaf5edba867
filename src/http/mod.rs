//! The wire: routes, extractors, errors and handlers of the distribution API.
