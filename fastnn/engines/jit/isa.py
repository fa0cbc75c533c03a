"""The instruction set that kernels are compiled for: this processor's, or a smaller one."""

from __future__ import annotations

import functools

import numba
from llvmlite import binding
from llvmlite.binding import Linkage
from numba.core import compiler
from numba.core.ccallback import CFunc
from numba.core.codegen import JITCodeLibrary, JITCPUCodegen
from numba.core.descriptors import TargetDescriptor
from numba.core.dispatcher import Dispatcher, _FunctionCompiler
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys

from .. import levels

#: Levels, the best first: bytes of a vector, MR (rows of the tallest micro-kernel that fits the
#: registers), LLVM's name of a processor of just this level, and the features that are required.
LEVELS = {
    "avx512": (64, 8, "x86-64-v4", ("avx512f", "avx512vl", "avx512dq", "fma")),
    "avx2": (32, 4, "x86-64-v3", ("avx2", "fma")),
    "neon": (16, 8, "generic", ("neon",)),
    "plain": (16, 4, "", ()),
}


def host_level() -> str:
    """The best level that this processor has."""
    try:
        features = binding.get_host_cpu_features()
    except RuntimeError:  # LLVM does not know this processor
        features = {}
    return next(
        name for name, (*_, needed) in LEVELS.items() if all(features.get(f) for f in needed)
    )


@functools.cache
def level() -> str:
    """The level that kernels are compiled for.

    Raises
    ------
    ValueError
        If ``FASTNN_SIMD`` is not a level, or this processor does not have it.
    """
    return levels.choose(host_level())


def vector_bytes() -> int:
    """Bytes of a vector register."""
    return LEVELS[level()][0]


def mr() -> int:
    """Rows of the tallest micro-kernel."""
    return LEVELS[level()][1]


class _Library(JITCodeLibrary):
    """The code of a kernel, whose subroutines no other kernel can see.

    Numba numbers functions of one name in the order in which a process compiles them, and leaves
    them visible. Kernels that different processes compiled would call each other's.
    """

    def _finalize_final_module(self):
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage == Linkage.linkonce_odr:
                function.linkage = Linkage.internal
        super()._finalize_final_module()


class _Codegen(JITCPUCodegen):
    """Code generation for this processor, or for a generic one of a lower level."""

    _library_class = _Library

    def _customize_tm_options(self, options):
        super()._customize_tm_options(options)
        if level() != host_level():
            options["cpu"] = LEVELS[level()][2]

    def _customize_tm_features(self):
        features = super()._customize_tm_features() if level() == host_level() else ""
        # By default LLVM vectorises loops with 256 bits on many processors with AVX-512.
        return f"{features},-prefer-256-bit".strip(",") if level() == "avx512" else features


class _Target(TargetDescriptor):
    """Numba's CPU target with the code generator above."""

    options = cpu_target.options

    @property
    def typing_context(self):
        return cpu_target.typing_context

    @functools.cached_property
    def target_context(self):
        context = cpu_target.target_context
        return context.subtarget(_internal_codegen=_Codegen("fastnn.exec"))


_target = _Target("cpu")


class _Callback(CFunc):
    @property
    def _targetdescr(self):
        return _target


class _Part(JITCodeLibrary):
    """The code of a subroutine, which becomes machine code only as part of its callers."""

    def _finalize_final_module(self):
        self._finalized = True


class _PartCompiler(_FunctionCompiler):
    """Compiles a subroutine without entry points of its own, which takes a third of the time."""

    def _compile_core(self, args, return_type):
        context = self.targetdescr.target_context
        flags = compiler.Flags()
        self.targetdescr.options.parse_as_flags(flags, self.targetoptions)
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        library = _Part(context.codegen(), self.py_func.__qualname__)
        library.enable_object_caching()
        return compiler.compile_extra(
            self.targetdescr.typing_context, context, self.py_func, args=args,
            return_type=return_type, flags=flags, locals=self.locals,
            pipeline_class=self.pipeline_class, library=library,
        )  # fmt: skip


class _Dispatcher(Dispatcher):
    targetdescr = _target

    def __init__(self, py_func, targetoptions):
        super().__init__(py_func=py_func, targetoptions=targetoptions)
        pipeline = self._compiler.pipeline_class
        self._compiler = _PartCompiler(py_func, self.targetdescr, targetoptions, {}, pipeline)

    def add_overload(self, cres):
        # Numba finds a callee by its entry point. This stands for it.
        key = object()
        context = self.targetdescr.target_context
        context.insert_user_function(key, cres.fndesc, [cres.library])
        self.overloads[tuple(cres.signature.args)] = cres._replace(entry_point=key)


def dispatcher(function, options):
    """A function callable from kernels, compiled for the level together with its callers."""
    return _Dispatcher(py_func=function, targetoptions=options)


def compile_callback(function, signature, options):
    """(Numba code library, symbol of its C entry point) of a function compiled for the level."""
    if options.get("parallel"):
        compiled = numba.cfunc(signature, **options)(function)
    else:
        compiled = _Callback(function, (signature.args, signature.return_type), {}, options)
        compiled.compile()
    return compiled._library, compiled.native_name


@functools.cache
def codegen(parallel: bool = False):
    """The code generator that loads libraries made by :func:`compile_callback`.

    The launcher, the one parallel function, is always compiled for this processor: Numba compiles
    the body of its loop itself, and it does no arithmetic.
    """
    # Loaded code calls Numba's runtime; compiling would have initialised it, loading does not.
    rtsys.initialize(cpu_target.target_context)
    return (cpu_target if parallel else _target).target_context.codegen()
