/* The "engine" of forecast.c: a perceptron 96-64-64-1 with tanh, forward and backward pass written out, in float32.
 * It does not depend on the optimizer: parameters and gradients are plain buffers. */
#ifndef MLP_H
#define MLP_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { MLP_INPUTS = 96, MLP_WIDEST = 96, MLP_LAYERS = 3, MLP_TENSORS = 2 * MLP_LAYERS };

/* Lengths of the layers' inputs and outputs: layer l goes from MLP_WIDTH[l] to MLP_WIDTH[l + 1]. */
static const size_t MLP_WIDTH[MLP_LAYERS + 1] = {MLP_INPUTS, 64, 64, 1};

typedef struct {
    float past[MLP_INPUTS]; /* oldest first */
    float next;             /* what is to be predicted */
} mlp_sample;

/* Layer by layer a weight (out x in, row-major) and a bias (out), and the gradient of each. */
typedef struct {
    float *param[MLP_TENSORS];
    float *grad[MLP_TENSORS];
} mlp;

/* splitmix64: small, and the same numbers on every platform. */
static uint64_t random_bits(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static size_t mlp_length(size_t tensor) {
    size_t layer = tensor / 2;
    return tensor % 2 ? MLP_WIDTH[layer + 1] : MLP_WIDTH[layer + 1] * MLP_WIDTH[layer];
}

/* Every parameter uniform in +-1/sqrt(inputs of its layer). */
static void mlp_init(mlp *net, uint64_t seed) {
    for (size_t t = 0; t < MLP_TENSORS; t++) {
        double bound = 1.0 / sqrt((double)MLP_WIDTH[t / 2]);
        for (size_t i = 0; i < mlp_length(t); i++) {
            double unit = (double)(random_bits(&seed) >> 11) * 0x1p-53;
            net->param[t][i] = (float)(bound * (2.0 * unit - 1.0));
        }
    }
}

/* Eight partial sums, so that the compiler may use vector registers. */
static float mlp_dot(size_t n, const float *a, const float *b) {
    float sum[8] = {0};
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t k = 0; k < 8; k++)
            sum[k] += a[i + k] * b[i + k];
    for (; i < n; i++)
        sum[0] += a[i] * b[i];
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

/* y += a x */
static void mlp_add(size_t n, float a, const float *x, float *y) {
    for (size_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

/* y[l] is the input of layer l, y[MLP_LAYERS] the prediction. */
static void mlp_forward(const mlp *net, const float *input, float y[MLP_LAYERS + 1][MLP_WIDEST]) {
    memcpy(y[0], input, MLP_INPUTS * sizeof *input);
    for (size_t l = 0; l < MLP_LAYERS; l++) {
        const float *weight = net->param[2 * l], *bias = net->param[2 * l + 1];
        for (size_t o = 0; o < MLP_WIDTH[l + 1]; o++) {
            float sum = bias[o] + mlp_dot(MLP_WIDTH[l], weight + o * MLP_WIDTH[l], y[l]);
            y[l + 1][o] = l + 1 < MLP_LAYERS ? tanhf(sum) : sum;
        }
    }
}

/* Adds the gradients of a loss whose derivative with respect to the prediction is `slope`. */
static void mlp_backward(mlp *net, float y[MLP_LAYERS + 1][MLP_WIDEST], float slope) {
    float above[MLP_WIDEST] = {slope}; /* the derivative with respect to the layer's sums */
    for (size_t l = MLP_LAYERS; l-- > 0;) {
        const float *weight = net->param[2 * l];
        float below[MLP_WIDEST] = {0}; /* ... with respect to its input y[l] */
        for (size_t o = 0; o < MLP_WIDTH[l + 1]; o++) {
            net->grad[2 * l + 1][o] += above[o];
            mlp_add(MLP_WIDTH[l], above[o], y[l], net->grad[2 * l] + o * MLP_WIDTH[l]);
            mlp_add(MLP_WIDTH[l], above[o], weight + o * MLP_WIDTH[l], below);
        }
        for (size_t i = 0; i < MLP_WIDTH[l]; i++)
            above[i] = below[i] * (1.0f - y[l][i] * y[l][i]);
    }
}

/* Mean squared error of the samples with the given numbers; with `gradients`, also fills net->grad. */
static double mlp_loss(mlp *net, const mlp_sample *samples, const size_t *numbers, size_t count, int gradients) {
    float y[MLP_LAYERS + 1][MLP_WIDEST];
    double loss = 0.0;
    if (gradients)
        for (size_t t = 0; t < MLP_TENSORS; t++)
            memset(net->grad[t], 0, mlp_length(t) * sizeof(float));
    for (size_t i = 0; i < count; i++) {
        const mlp_sample *sample = &samples[numbers[i]];
        mlp_forward(net, sample->past, y);
        float off = y[MLP_LAYERS][0] - sample->next;
        loss += (double)off * off;
        if (gradients)
            mlp_backward(net, y, 2.0f * off / (float)count);
    }
    return loss / (double)count;
}

#endif
