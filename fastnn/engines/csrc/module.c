/* The module fastnn.engines._c: addresses of the compiled functions, and the layout of the tables.

   Python calls the functions through ctypes, as it does Numba's; this module only hands out their
   addresses. It keeps to Python's limited API, so one build serves all versions from 3.11 on. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "launcher.h"

#include <string.h>

extern const struct engine fastnn_plain_float32, fastnn_plain_float64;
#if defined(__x86_64__)
extern const struct engine fastnn_avx2_float32, fastnn_avx2_float64;
extern const struct engine fastnn_avx512_float32, fastnn_avx512_float64;
#elif defined(__aarch64__)
extern const struct engine fastnn_neon_float32, fastnn_neon_float64;
#endif

/* The best level first. */
static const struct engine *const engines[] = {
#if defined(__x86_64__)
    &fastnn_avx512_float32, &fastnn_avx512_float64, &fastnn_avx2_float32, &fastnn_avx2_float64,
#elif defined(__aarch64__)
    &fastnn_neon_float32, &fastnn_neon_float64,
#endif
    &fastnn_plain_float32, &fastnn_plain_float64,
};

enum { N_ENGINES = sizeof engines / sizeof engines[0] };

/* Whether this processor, and its operating system, can run a level. */
static int can_run(const char *level)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!strcmp(level, "avx512"))
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")
               && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")
               && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (!strcmp(level, "avx2"))
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    (void)level;
    return 1;
}

static PyObject *levels(PyObject *self, PyObject *args)
{
    (void)self, (void)args;
    PyObject *found = PyList_New(0);
    for (int i = 0; found && i < N_ENGINES; i += 2) {
        if (!can_run(engines[i]->level)) continue;
        PyObject *name = PyUnicode_FromString(engines[i]->level);
        if (!name || PyList_Append(found, name) < 0) Py_CLEAR(found);
        Py_XDECREF(name);
    }
    return found;
}

static int put(PyObject *dict, const char *name, PyObject *value)
{
    const int failed = !value || PyDict_SetItemString(dict, name, value) < 0;
    Py_XDECREF(value);
    return failed;
}

static PyObject *addresses(PyObject *self, PyObject *args)
{
    const char *level, *dtype;
    (void)self;
    if (!PyArg_ParseTuple(args, "ss", &level, &dtype)) return NULL;
    for (int i = 0; i < N_ENGINES; i++) {
        if (strcmp(level, engines[i]->level) || strcmp(dtype, engines[i]->dtype)) continue;
        if (!can_run(level)) break;
        PyObject *found = PyDict_New();
        for (const struct symbol *s = engines[i]->symbols; found && s->name; s++)
            if (put(found, s->name, PyLong_FromVoidPtr((void *)s->address))) Py_CLEAR(found);
        return found;
    }
    PyErr_Format(PyExc_ValueError, "no code for %s in %s that this processor can run", dtype,
                 level);
    return NULL;
}

#define PUT_FIELD(type, name)                                                                     \
    failed = failed || put(found, #name, PyLong_FromSize_t(offsetof(struct STRUCT, name)));
#define PUT_CODE(name, value) failed = failed || put(found, #name, PyLong_FromLong(value));

/* {"op": {field: offset}, "call": ..., "context": ..., "codes": {name: value}, "sizes": ...} */
static PyObject *layout(PyObject *self, PyObject *args)
{
    PyObject *all = PyDict_New(), *found;
    int failed = !all;
    (void)self, (void)args;
#define PUT_STRUCT(name, FIELDS)                                                                  \
    found = failed ? NULL : PyDict_New();                                                         \
    failed = failed || !found;                                                                    \
    FIELDS                                                                                        \
    if (found) failed = put(all, name, found) || failed;
#define STRUCT op
    PUT_STRUCT("op", OP_FIELDS(PUT_FIELD))
#undef STRUCT
#define STRUCT call
    PUT_STRUCT("call", CALL_FIELDS(PUT_FIELD))
#undef STRUCT
#define STRUCT group
    PUT_STRUCT("group", GROUP_FIELDS(PUT_FIELD))
#undef STRUCT
#define STRUCT context
    PUT_STRUCT("context", CONTEXT_FIELDS(PUT_FIELD))
#undef STRUCT
    PUT_STRUCT("codes", CODES(PUT_CODE))
    PUT_STRUCT("sizes", PUT_CODE(op, sizeof(struct op)) PUT_CODE(call, sizeof(struct call))
                            PUT_CODE(context, sizeof(struct context)))
    if (failed) Py_CLEAR(all);
    return all;
}

static PyMethodDef methods[] = {
    {"levels", levels, METH_NOARGS,
     "levels()\n--\n\nLevels of vector instructions that are built and can run here, best first."},
    {"addresses", addresses, METH_VARARGS,
     "addresses(level, dtype)\n--\n\nThe address of every function by name."},
    {"layout", layout, METH_NOARGS,
     "layout()\n--\n\nOffsets of all fields, and all codes, as the C sources have them."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_c",
    .m_doc = "The functions of the C engine, by address.",
    .m_size = 0,
    .m_methods = methods,
};

/* setup.py gives the digest of these sources; a build by hand may go without. */
#ifndef FASTNN_SOURCES
#define FASTNN_SOURCES ""
#endif

PyMODINIT_FUNC PyInit__c(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module && PyModule_AddStringConstant(module, "sources", FASTNN_SOURCES) < 0)
        Py_CLEAR(module);
    return module;
}
