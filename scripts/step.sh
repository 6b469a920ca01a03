# Sourced by the scripts beside it: says which step begins, and keeps how long each took in the file
# that QUORATE_STEPS names.

step() {
    step_end
    step_name=$*
    step_since=$(date +%s)
    printf '\n== %s\n' "$*"
}

# Ends the last step.
step_end() {
    if [ -n "${step_name:-}" ] && [ -n "${QUORATE_STEPS:-}" ]; then
        printf '%6d s  %s\n' "$(($(date +%s) - step_since))" "$step_name" >>"$QUORATE_STEPS"
    fi
    step_name=
}
