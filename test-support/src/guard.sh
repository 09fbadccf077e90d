# Keeps one server and its folder for as long as this script's standard input stays open.
#
# The test holds the other end of that pipe. However the test ends, by return, panic, Ctrl-C or
# SIGKILL, the kernel closes its end; then the server is ended and the folder removed. The script
# runs in a process group of its own, so that Ctrl-C on a terminal reaches the test and not it.
#
# Arguments: the folder, the signal that ends the server fastest without damage, and the words that
# run the folder's file `command` as the servers' user. Each line on standard input is answered by one
# line on standard output.

folder=$1
ending=$2
shift 2
server=

# A handler, not an ignored signal: servers would inherit the latter.
trap : HUP INT TERM

# The server and its direct children: Postgres and nginx have some, in sessions of their own.
family() {
    children=
    if [ -r "/proc/$server/task/$server/children" ]; then
        read -r children <"/proc/$server/task/$server/children" || :
    fi
    echo "$server $children"
}

alive() {
    # The shell reaps what has ended when a foreground command ends.
    sleep 0
    [ -n "$server" ] && kill -0 "$server" 2>/dev/null
}

signal() {
    # shellcheck disable=SC2046
    kill -s "$1" $(family) 2>/dev/null
}

# Asks with the signal in $1, waits for at most $2 twentieths of a second, then forces.
end() {
    if alive; then
        signal CONT
        kill -s "$1" "$server" 2>/dev/null
        left=$2
        while alive && [ "$left" -gt 0 ]; do
            sleep 0.05
            left=$((left - 1))
        done
        if alive; then
            signal KILL
        fi
    fi
    wait "$server" 2>/dev/null
    status=$?
    server=
}

while read -r word argument; do
    case $word in
    start)
        end "$ending" 100
        "$@" sh "$folder/command" >>"$folder/log" 2>&1 </dev/null &
        server=$!
        echo "started $server"
        ;;
    check)
        if alive; then echo running; else echo ended; fi
        ;;
    signal)
        signal "$argument"
        echo signalled
        ;;
    kill)
        if alive; then signal KILL; fi
        wait "$server" 2>/dev/null
        server=
        echo ended
        ;;
    end)
        end "$argument" 600
        echo "ended $status"
        ;;
    esac
done

end "$ending" 100
rm -rf -- "$folder"
