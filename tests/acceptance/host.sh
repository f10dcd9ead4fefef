#!/usr/bin/env bash
# The boot of one host of hosts.py, run in namespaces of its own: host.sh NAME ADDRESS FOLDER REPOSITORY VENV BASE
# VENV and BASE are a Python's environment and what it was made from; FOLDER has the key, and `shared` for /srv.
set -euo pipefail
name=$1 address=$2 folder=$3 repository=$4 venv=$5 base=$6
hostname "$name"
mount --bind "$folder/shared" /srv
mkdir -p /opt/openal_ray && mount --bind "$repository" /opt/openal_ray
mount -t tmpfs -o size=8g tmpfs /dev/shm
mount -t tmpfs tmpfs /run && mkdir -p /run/sshd
layers=/var/tmp
mount -t tmpfs -o size=2g tmpfs $layers
mkdir -p $layers/upper $layers/work /run/venv /run/base
install -m 600 "$folder/key" $layers/key
mount --bind "$venv" /run/venv
mount --bind "$base" /run/base
mount -t tmpfs -o size=2g tmpfs /root
mkdir -p "$base" "$venv"
mount --bind /run/base "$base"
mount -t overlay overlay -o "lowerdir=/run/venv,upperdir=$layers/upper,workdir=$layers/work" "$venv"
mkdir -m 700 /root/.ssh
cp "$folder/key.pub" /root/.ssh/authorized_keys
cp $layers/key /root/.ssh/id_ed25519
ln -s "$venv" /root/openal-venv
printf '# As Debian has it: whoever is not interactive reads no further.\ncase $- in *i*) ;; *) return ;; esac\n' > /root/.bashrc
printf '[ -f ~/.bashrc ] && . ~/.bashrc\n' > /root/.bash_profile
mkdir -p /root/.config/pip
printf '[global]\nno-index = true\nfind-links = /srv/wheels\n' > /root/.config/pip/pip.conf
mount -t tmpfs -o size=4g tmpfs /tmp && chmod 1777 /tmp
exec /usr/sbin/sshd -D -e -h $layers/key -o PidFile=none -o UsePAM=no -o StrictModes=no -o PermitRootLogin=yes \
  -o ListenAddress="$address"
