"""The API's reference page, /docs, all from this server: a usual one fetches its script from elsewhere."""

import base64
import hashlib
import re

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

PARTS = "/static-offline-docs"
"""Where fastapi-offline serves the page's script and style."""
POLICY = (
    "default-src 'none'; script-src 'self' '{script}'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def is_reference(path: str) -> bool:
    """Whether a path is of the page, of its parts, or the description that it shows."""
    return path in ("/docs", "/openapi.json", PARTS) or path.startswith(f"{PARTS}/")


def install(app: FastAPI) -> None:
    """Adds the page; the one script in it is known to its policy by digest."""
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=app.title,
        swagger_js_url=f"{PARTS}/swagger-ui-bundle.js",
        swagger_css_url=f"{PARTS}/swagger-ui.css",
        swagger_favicon_url=f"{PARTS}/favicon.png",
    )
    (script,) = re.findall(rb"<script>(.*?)</script>", bytes(page.body), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
    headers = {"Content-Security-Policy": POLICY.format(script=f"sha256-{digest}")}

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page.body, headers=headers)
