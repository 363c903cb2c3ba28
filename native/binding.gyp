{
  "targets": [
    {
      "target_name": "fusewire",
      "sources": [
        "src/addon.c",
        "src/backing.c",
        "src/buffers.c",
        "src/device.c",
        "src/files.c",
        "src/identity.c",
        "src/locks.c",
        "src/mount.c",
        "src/tape.c",
        "src/uring.c",
        "src/wake.c",
        "src/watch.c"
      ],
      "defines": ["NAPI_VERSION=8", "_GNU_SOURCE", "_FILE_OFFSET_BITS=64"],
      "cflags!": ["-O3", "-fno-omit-frame-pointer"],
      "cflags": ["-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"],
      "ldflags": ["-Wl,-z,relro", "-Wl,-z,noexecstack"]
    }
  ]
}
