/* Answers `cpuid` where its place was taken by a byte that is no instruction (see __init__.py): as
 * the CPU does, less AVX-512, AMX and AVX10. The bits are those of Intel's and AMD's manuals. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>

#define BIT(n) (1u << (n))

static const unsigned char stand_in[2] = {0x06, 0xa2};

static void answer(int number, siginfo_t* info, void* opaque) {
    greg_t* registers = ((ucontext_t*)opaque)->uc_mcontext.gregs;
    (void)info;
    if (memcmp((const void*)registers[REG_RIP], stand_in, sizeof stand_in) != 0) {
        signal(number, SIG_DFL); /* somebody else's: it is raised again on return */
        return;
    }
    unsigned leaf = (unsigned)registers[REG_RAX], part = (unsigned)registers[REG_RCX];
    unsigned a, b, c, d;
    __cpuid_count(leaf, part, a, b, c, d);
    if (leaf == 7 && part == 0) {
        b &= ~(BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31));
        c &= ~(BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14));
        d &= ~(BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25));
    } else if (leaf == 7 && part == 1) {
        a &= ~(BIT(5) | BIT(21));
        d &= ~(BIT(8) | BIT(19));
    }
    registers[REG_RAX] = a, registers[REG_RBX] = b, registers[REG_RCX] = c, registers[REG_RDX] = d;
    registers[REG_RIP] += sizeof stand_in;
}

__attribute__((constructor)) static void begin(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = answer;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGILL, &action, NULL);
}
