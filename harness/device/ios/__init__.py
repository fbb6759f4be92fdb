"""iPhones and iPads. No program is started there with a command line: a job folder goes in, a result folder comes out.

job_folder.py        what the folders hold: the words that host and app agree on
transport.py         the seam: put a folder, get a folder, open the app
pymobiledevice3.py   any host, by an external command line (GPL: never imported, never a dependency)
devicectl.py         a Mac with Xcode 15 or newer
simctl.py            the simulator of a Mac: proves the path, never a time
device.py            all of it as a `Device`
connected.py         which phones are there, by which transport
"""
