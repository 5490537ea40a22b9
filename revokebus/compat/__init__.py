"""Names of other libraries, for programs that move over. Nothing in RevokeBus imports them."""
