# Stops a shell of the pipeline, which bash does first if BASH_ENV names this file: see sitecustomize.py.
# DMF_HOLD_AT is `<word of the command>:shell` for its start, or `<word>:before <command>`, such as
# `before "$@"`, which is how a function starts what it was given.
hold() {
    echo $$ > "$DMF_HOLD/$$.reached"
    ln "$DMF_HOLD/$$.reached" "$DMF_HOLD/reached" 2> /dev/null || return 0
    while [ -e "$DMF_HOLD" ] && ! [ -e "$DMF_HOLD/go" ]; do sleep 0.02; done
}
if [ -n "${DMF_HOLD-}" ]; then
    case "${BASH_EXECUTION_STRING-}" in
    *"${DMF_HOLD_AT%%:*}"*)
        case "${DMF_HOLD_AT#*:}" in
        shell) hold ;;
        "before "*)
            set -T
            trap '[ "$BASH_COMMAND" != "${DMF_HOLD_AT#*:before }" ] || hold' DEBUG
            ;;
        esac
        ;;
    esac
fi
