"""Writes the page of commands from the command line itself, so that they cannot differ."""

import re

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click

from vlm_gauntlet.cli.main import app

EXAMPLES = re.compile(r"\x08\n(.+)((?:\n.+)*)")
"""A paragraph that the command line keeps as it is: a line of words, and commands below it."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds commands.md."""
    files.append(File.generated(config, "commands.md", content=page()))
    return files


def page() -> str:
    """Every command with its help, in Markdown."""
    command = typer.main.get_command(app)
    with typer.Context(command, info_name="gauntlet") as context:
        text = get_docs_for_click(obj=command, ctx=context, name="gauntlet", title="Commands")
    return EXAMPLES.sub(_as_block, text)


def _as_block(paragraph: re.Match[str]) -> str:
    words, commands = paragraph[1], "\n".join(line.strip() for line in paragraph[2].strip("\n").splitlines())
    return f"{words}\n\n```\n{commands}\n```" if commands else words
