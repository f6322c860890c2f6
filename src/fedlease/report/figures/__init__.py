"""The paper's figures by name; a file in this folder that lists ``FIGURES`` is found."""
