"""Commands for many: machines (`scale`) and clients (`serve`)."""
