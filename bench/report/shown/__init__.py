"""How a report looks: what it says from its JSON, as HTML and as Markdown."""
