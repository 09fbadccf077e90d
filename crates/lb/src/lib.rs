//! Which endpoint serves this request: load balancing strategies, health and outcome feedback.
