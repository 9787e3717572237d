"""Sphinx settings of the site; scripts/make_docs.py adds those that settings.ini has."""

language = "en"
extensions = ["myst_nb", "sphinx.ext.mathjax", "sphinx_copybutton"]
root_doc = "index"

# Pages. Outputs are shown as committed: nothing runs, and no widget asks another host for scripts.
nb_execution_mode = "off"
nb_output_stderr = "remove"
nb_merge_streams = True
nb_render_markdown_format = "myst"  # tables in outputs too
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
nb_ipywidgets_js = {}
myst_enable_extensions = ["dollarmath", "html_image", "colon_fence"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
suppress_warnings = [
    "myst.header",  # an exercise's folded solution, or a changelog, may leave out a level of headings
    "misc.highlighting_failure",  # a cell may hold a shell command or a magic beside Python
]

# API reference.
add_module_names = False
python_maximum_signature_line_length = 60
toc_object_entries_show_parents = "hide"

# Appearance. MathJax is one file beside the pages; its SVG output needs no fonts.
mathjax_path = "tex-svg.js"
html_theme = "sphinx_book_theme"
html_css_files = ["site.css"]
html_favicon = "favicon.svg"
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system is
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "collapse_navbar": True,
    "home_page_in_toc": True,
    "navbar_persistent": [],  # the search field stands in the sidebar
    "navigation_with_keys": False,
    "search_bar_text": "Search",
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
