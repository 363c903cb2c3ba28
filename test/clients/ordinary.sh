# What an ordinary user does in a folder; every line of output must be the same natively and on a mount.
cd "$1" || exit 1
umask 022
run() { "$@" 2>&1 | sed "s#$PWD#.#g; s/[0-9]*:[0-9.]*//g"; echo "$1: ${PIPESTATUS[0]}"; }
run sh -c 'echo one > a && cat a && cp a b && mv b c && ln c d && ln -s a e && cat e'
run mkdir -p deep/er
run touch -d '2001-02-03 04:05:06.789' deep/er/f
run stat -c '%n %U %G %a %s %h %y' a c d deep/er/f
run chmod 2770 deep && run stat -c '%a' deep
run chown 0:0 a
run mknod node b 1 1
run setfattr -n user.key -v value a
run getfattr --only-values -n user.key a
run dd if=/dev/zero of=big bs=64k count=33 oflag=direct status=none
run dd if=big of=copy bs=1M iflag=direct status=none
run cmp big copy
run truncate -s 100 big
run fallocate -l 4096 big
run stat -c '%s' big
run flock a true
run git init -q repo
run git -C repo -c user.name=u -c user.email=u@example.org commit -q --allow-empty -m x
run git -C repo fsck
run find . -path ./repo -prune -o -type f -size -200c -print
run rm -r deep repo a c d e big copy
run ls -A
