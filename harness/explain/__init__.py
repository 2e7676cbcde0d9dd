"""Why INT8 is not faster, or not right: layer tables, findings, what mixed precision would buy."""
