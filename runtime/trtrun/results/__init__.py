"""What tracking leaves behind: boxes in their formats, the video, the line on the terminal."""
