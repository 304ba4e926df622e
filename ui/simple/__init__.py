"""The simple page: pictures in, a LoRA out. It makes a job and hands it to the same queue as the web UI."""
