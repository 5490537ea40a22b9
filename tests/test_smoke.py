from revokebus import RevokeBus


def test_the_package_exports_the_bus() -> None:
    """A user could not import the library at all."""
    assert RevokeBus.__name__ == "RevokeBus"
