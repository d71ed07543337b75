"""Generated stubs; `make stubs` compiles them anew."""
