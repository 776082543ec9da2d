# Read by the scripts that take a model through all steps of an example.

# step NAME COMMAND ...: say both, and run the command.
step() {
	echo
	echo "== $1"
	shift
	echo "$ $*"
	"$@"
}
