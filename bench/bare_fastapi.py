"""The reference of bench/gateway.py: FastAPI with one route that answers a constant post, and nothing else."""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI

POST = {
    "post_id": "post_01m8370pt6enx8agpg77kpjnft",
    "title": "bench",
    "state": "draft",
    "variants": [
        {
            "channel_id": "chan_01m8370pt6enx8agpg77kpjnft",
            "segments": [{"text": "a post of the bench", "attachments": []}],
            "visibility": "public",
            "language": "",
            "state": "planned",
            "remote_id": "",
            "remote_url": "",
            "failure": "",
        }
    ],
    "publish_at": None,
    "cancellation": None,
    "revision": 1,
    "create_time": "2026-03-02T09:00:00.000000Z",
    "update_time": "2026-03-02T09:00:00.000000Z",
}

app = FastAPI()


@app.get("/v1/posts/{post_id}")
async def get_post(post_id: str) -> dict[str, Any]:
    return POST | {"post_id": post_id}


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="warning")
