"""The command line, one module a family: the only code that knows Typer, prints results or exits."""
