"""The eleven stores' records, validation and arithmetic; pure, and none of them knows another."""
