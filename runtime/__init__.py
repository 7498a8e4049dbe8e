"""How a plan is executed: `plan.Plan`, `attention.attention`, and a backend a file."""
