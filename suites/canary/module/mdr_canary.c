// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * mdr_canary: makes a kernel fail in one known way, for the canaries of md-regress.
 *
 * Nothing happens when it is loaded. Writing one word to /proc/mdr_canary makes it happen, in the task that
 * writes; `echo oops >/proc/mdr_canary`. The device-mapper target `mdr-spin` never gets on with a request:
 * its map function retries for ever, as md's request handling does when what it waits for never comes. `mdr-lose` takes
 * requests and never ends them.
 *
 * Only for a virtual machine that is thrown away.
 */

#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/device-mapper.h>
#include <linux/irqflags.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/preempt.h>
#include <linux/proc_fs.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

static DECLARE_COMPLETION(never);

/* Each in a function of its own, which the report then names. */

static noinline void mdr_null(void)
{
	WRITE_ONCE(*(volatile int *)8L, 1);
}

static noinline void mdr_protection(void)
{
	/* No canonical address: a general protection fault instead of a page fault. */
	WRITE_ONCE(*(volatile int *)0xdead000000000100UL, 1);
}

static noinline void mdr_warn(void)
{
	WARN(1, "mdr_canary: a warning that was asked for\n");
}

static noinline void mdr_bug(void)
{
	BUG();
}

static noinline void mdr_list(void)
{
	static LIST_HEAD(head);
	static struct list_head entry;

	list_add(&entry, &head);
	head.next = &head;
	list_del(&entry);
}

static noinline void mdr_freeze(void)
{
	local_irq_disable();
	for (;;)
		cpu_relax();
}

static noinline void mdr_halt(void)
{
	local_irq_disable();
	for (;;)
		asm volatile("hlt" : : : "memory");
}

static noinline void mdr_soft(void)
{
	preempt_disable();
	for (;;)
		cpu_relax();
}

static noinline void mdr_rcu(void)
{
	rcu_read_lock();
	for (;;)
		cond_resched();
}

static int mdr_wait(void *unused)
{
	wait_for_completion(&never);
	return 0;
}

static noinline void mdr_hung(void)
{
	mdr_wait(NULL);
}

static noinline void mdr_hung_kthread(void)
{
	/* By its name one that serves an array. */
	kthread_run(mdr_wait, NULL, "md_mdr_canary");
}

static void mdr_hog(struct work_struct *work)
{
	preempt_disable();
	for (;;)
		cpu_relax();
}

static DECLARE_WORK(hog, mdr_hog);

static noinline void mdr_workqueue(void)
{
	schedule_work(&hog);
}

static noinline void mdr_atomic(void)
{
	preempt_disable();
	schedule_timeout_uninterruptible(1);
	preempt_enable();
}

static const struct {
	const char *word;
	void (*act)(void);
} acts[] = {
	{ "oops", mdr_null },
	{ "protection", mdr_protection },
	{ "warn", mdr_warn },
	{ "bug", mdr_bug },
	{ "list", mdr_list },
	{ "freeze", mdr_freeze },
	{ "halt", mdr_halt },
	{ "soft", mdr_soft },
	{ "rcu", mdr_rcu },
	{ "hung", mdr_hung },
	{ "hung-kthread", mdr_hung_kthread },
	{ "workqueue", mdr_workqueue },
	{ "atomic", mdr_atomic },
};

static ssize_t mdr_write(struct file *file, const char __user *from, size_t len, loff_t *pos)
{
	char word[32];
	size_t i;

	if (len >= sizeof(word))
		return -EINVAL;
	if (copy_from_user(word, from, len))
		return -EFAULT;
	word[len] = '\0';
	for (i = 0; i < ARRAY_SIZE(acts); i++) {
		if (!strcmp(strim(word), acts[i].word)) {
			acts[i].act();
			return len;
		}
	}
	return -EINVAL;
}

static const struct proc_ops mdr_ops = {
	.proc_write = mdr_write,
};

/* ---- mdr-spin: a target whose requests go round for ever --------------------------------------------- */

static int mdr_spin_ctr(struct dm_target *target, unsigned int argc, char **argv)
{
	/* `hold`: lets nobody else run meanwhile. */
	target->private = argc && !strcmp(argv[0], "hold") ? target : NULL;
	return 0;
}

static int mdr_spin_map(struct dm_target *target, struct bio *bio)
{
	/* Unless it holds the processor, all others go on, and nothing moves. */
	if (target->private)
		preempt_disable();
	for (;;) {
		cpu_relax();
		if (!target->private)
			cond_resched();
	}
	return DM_MAPIO_KILL;
}

static struct target_type mdr_spin = {
	.name = "mdr-spin",
	.version = { 1, 0, 0 },
	.module = THIS_MODULE,
	.ctr = mdr_spin_ctr,
	.map = mdr_spin_map,
};

/* ---- mdr-lose: a target that loses its requests ------------------------------------------------------ */

static int mdr_lose_ctr(struct dm_target *target, unsigned int argc, char **argv)
{
	target->num_flush_bios = 1;
	return 0;
}

static int mdr_lose_map(struct dm_target *target, struct bio *bio)
{
	/* Nobody will ever end it. */
	return DM_MAPIO_SUBMITTED;
}

static struct target_type mdr_lose = {
	.name = "mdr-lose",
	.version = { 1, 0, 0 },
	.module = THIS_MODULE,
	.ctr = mdr_lose_ctr,
	.map = mdr_lose_map,
};

static int __init mdr_init(void)
{
	int error = dm_register_target(&mdr_spin);

	if (error)
		return error;
	error = dm_register_target(&mdr_lose);
	if (error)
		goto spin;
	error = -ENOMEM;
	if (!proc_create("mdr_canary", 0200, NULL, &mdr_ops))
		goto lose;
	return 0;
lose:
	dm_unregister_target(&mdr_lose);
spin:
	dm_unregister_target(&mdr_spin);
	return error;
}

static void __exit mdr_exit(void)
{
	remove_proc_entry("mdr_canary", NULL);
	dm_unregister_target(&mdr_lose);
	dm_unregister_target(&mdr_spin);
}

module_init(mdr_init);
module_exit(mdr_exit);
MODULE_DESCRIPTION("Fails in one known way, to prove that md-regress sees it");
MODULE_LICENSE("GPL");
