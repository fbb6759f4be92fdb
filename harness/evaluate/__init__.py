"""What a network still recognises: run on labelled images, as the checkpoint or as the converted file."""
