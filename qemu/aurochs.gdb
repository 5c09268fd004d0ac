# What `cargo xtask gdb` does once gdb is connected: the machine is halted at its first instruction,
# the monitor's symbols are loaded. $console and $dom0 name the console's log and dom0's ELF file.

set pagination off
set print pretty on

python
import re

class Dom0Symbols(gdb.Command):
    """dom0-symbols [ADDRESS]
Loads dom0's symbols. Where the monitor has put dom0 it says on the console."""

    def __init__(self):
        super().__init__("dom0-symbols", gdb.COMMAND_FILES)

    def invoke(self, argument, from_tty):
        elf = gdb.convenience_variable("dom0").string()
        gdb.execute(f"add-symbol-file {elf} -o {argument or self.entry()}", to_string=True)
        print("dom0's symbols are loaded.")

    def entry(self):
        with open(gdb.convenience_variable("console").string()) as console:
            said = re.search(r"dom0: .* entry (0x[0-9a-f]+)", console.read())
        if not said:
            raise gdb.GdbError("dom0 is not loaded yet; `continue` first, or give its address.")
        return said.group(1)

Dom0Symbols()
end

define cpu-state
  printf "exception level %d, ", ($cpsr >> 2) & 3
  info symbol $pc
end
document cpu-state
Shows the exception level and the function of the selected CPU.
end

# The vectors' way into a guest: taken first when the monitor has built dom0.
tbreak enter_guest
commands
  silent
  dom0-symbols
  printf "dom0 is about to be entered: set breakpoints by function (its bare name) or FILE:LINE.\n"
end
printf "The machine is halted at its first instruction. `continue` boots up to dom0's first.\n"
