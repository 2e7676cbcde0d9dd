"""Which operators to leave in float: errors and gains one by one, a search, and the plan that it ends with."""
