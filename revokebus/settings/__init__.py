"""Everything that can be set, validated once."""
