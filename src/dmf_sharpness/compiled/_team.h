/* A team of threads that run the same function, each on its own part of the rows.
 *
 * A thread that is not there shortly after the call does not join the team, and the others do its part.
 * The threads are those of PyTorch's OpenMP where the caller names it: after a product of PyTorch these
 * wait for work in a loop for a while, and would keep other threads from the processor. OpenMP waits at
 * the end for each of its threads. Otherwise the threads are started by the call, and none is waited for
 * that is late; there is then no state between calls that a fork could break. */
#ifndef DMF_TEAM_H
#define DMF_TEAM_H

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#include "_clones.h"

/* The largest number of looks at a counter before a waiting thread goes to sleep: some ten microseconds
 * on an x86 processor, which is about as long as waking it up takes. */
#define MOST_LOOKS 2048
/* The same while the caller waits for threads that are being started. */
#define LOOKS_AT_START 3000
/* A number of threads that no team has, for one that is complete. */
#define COMPLETE (INT_MIN / 2)

struct member;
typedef struct {
    int64_t size;      /* the number of threads, the caller's included */
    int wanted;        /* the number of threads besides the caller that were started */
    pthread_t caller;
    atomic_int joined; /* how many of them have joined, or COMPLETE and more */
    atomic_int users;  /* the number of threads that may still look at this */
    atomic_int inside; /* the number of threads that wait at the meeting point */
    atomic_int round;  /* the number of meetings so far; the first one starts the work */
    pthread_mutex_t lock;
    pthread_cond_t next_round;
    void (*work)(void *data, struct member *self);
    void *data;
} team;

/* One thread of a team. */
typedef struct member {
    team *all;
    int64_t index;
    int looks; /* the number of looks before it sleeps */
} member;

static void look_away(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

/* Wait until the round is over. On a busy machine the others may not run meanwhile. A thread that sleeps
 * leaves its processor to them, and one that had to sleep looks less often the next time. */
static void wait_for_end(member *self, int round)
{
    team *all = self->all;
    for (int looks = 0; looks < self->looks; looks++) {
        if (atomic_load_explicit(&all->round, memory_order_acquire) != round) {
            self->looks = 2 * self->looks < MOST_LOOKS ? 2 * self->looks : MOST_LOOKS;
            return;
        }
        look_away();
    }
    self->looks = self->looks > 1 ? self->looks / 4 + 1 : 1;
    pthread_mutex_lock(&all->lock);
    while (atomic_load_explicit(&all->round, memory_order_acquire) == round)
        pthread_cond_wait(&all->next_round, &all->lock);
    pthread_mutex_unlock(&all->lock);
}

static void end_round(team *all)
{
    pthread_mutex_lock(&all->lock);
    atomic_fetch_add_explicit(&all->round, 1, memory_order_release);
    pthread_cond_broadcast(&all->next_round);
    pthread_mutex_unlock(&all->lock);
}

/* Wait until all threads of the team are here; what each has written is then seen by all. */
static void meet(member *self)
{
    team *all = self->all;
    if (all->size == 1)
        return;
    const int round = atomic_load_explicit(&all->round, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&all->inside, 1, memory_order_acq_rel) + 1 == all->size) {
        atomic_store_explicit(&all->inside, 0, memory_order_relaxed);
        end_round(all);
    } else
        wait_for_end(self, round);
}

/* The part of one thread, from the time at which it is there. */
static void take_part(void *argument)
{
    team *all = argument;
    member self = {all, 0, MOST_LOOKS};
    if (pthread_equal(pthread_self(), all->caller)) {
        for (int looks = 0; looks < LOOKS_AT_START && all->joined < all->wanted; looks++)
            look_away();
        all->size = 1 + atomic_exchange(&all->joined, COMPLETE);
        end_round(all);
    } else {
        self.index = 1 + atomic_fetch_add(&all->joined, 1);
        if (self.index <= 0)
            return;
        wait_for_end(&self, 0);
    }
    all->work(all->data, &self);
    meet(&self);
}

static void leave(team *all)
{
    if (atomic_fetch_sub(&all->users, 1) == 1) {
        pthread_mutex_destroy(&all->lock);
        pthread_cond_destroy(&all->next_round);
        free(all);
    }
}

static void *thread_main(void *argument)
{
    take_part(argument);
    leave(argument);
    return 0;
}

/* Call ``work(data, self)`` on up to ``threads`` threads at once. They are started by ``start``, or by the
 * system if it is NULL. Returns whether there was enough memory. */
static int run_team(int64_t threads, parallel *start, void (*work)(void *data, member *self), void *data)
{
    team *all = malloc(sizeof(team));
    if (!all)
        return 0;
    *all = (team){.caller = pthread_self(), .work = work, .data = data};
    atomic_init(&all->users, 1);
    pthread_mutex_init(&all->lock, 0);
    pthread_cond_init(&all->next_round, 0);
    if (threads > 1 && start) {
        all->wanted = (int)threads - 1;
        start(take_part, all, (unsigned)threads, 0);
    } else {
        pthread_attr_t detached;
        pthread_t thread;
        pthread_attr_init(&detached);
        pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
        for (int64_t k = 1; k < threads; k++) {
            atomic_fetch_add(&all->users, 1);
            if (pthread_create(&thread, &detached, thread_main, all)) {
                atomic_fetch_sub(&all->users, 1);
                break;
            }
            all->wanted++;
        }
        pthread_attr_destroy(&detached);
        take_part(all);
    }
    leave(all);
    return 1;
}

#endif
