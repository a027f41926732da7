/* What the C fragments of the documentation's pages stand among: they are compiled, not run. */
#include <metaadamw.h>

#include <stdio.h>
#include <stdlib.h>

/* The library's. */
static maw_optimizer *optimizer;
static maw_error *error;
static maw_options options;
static maw_param_group group;
static maw_tensor *tensors;
static maw_step_options step_options;
static maw_step_report report;
static maw_meta_request request;
static maw_meta_answer answer;

/* The host's: one pointer a tensor, and what goes with it. */
static size_t n, tensor, *count;
static void **params, **exp_avg, **exp_avg_sq;
static const void **grads;
static uint64_t *updates;
static float **master;
static double scale;
static int good, stopping;
double evaluate_any(int, ...);
#define evaluate(...) evaluate_any(0, __VA_ARGS__)

/* CUDA's. */
typedef struct CUstream_st *CUstream;
typedef struct CUgraph_st *CUgraph;
enum { CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1 };
int cuStreamBeginCapture(CUstream stream, int mode);
int cuStreamEndCapture(CUstream stream, CUgraph *graph);
static CUstream stream;
static CUgraph graph;

/* NCCL's. */
typedef struct ncclComm *ncclComm_t;
static ncclComm_t communicator;
int32_t all_reduce(double *values, size_t count, void *communicator);
