"""Parts of the section `datasets`."""
